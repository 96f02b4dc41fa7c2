"""What a sweep found: its page, figures for papers, tables for other tools."""

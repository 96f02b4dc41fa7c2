"""What a search over bit widths found, as tables, pictures and a page."""

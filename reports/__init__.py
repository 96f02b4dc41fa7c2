"""What a person sees: tables, figures, timelines and pages."""

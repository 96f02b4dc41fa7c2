"""What the searches of many designs share."""

"""A run document as tables, charts, markdown and terminal text."""

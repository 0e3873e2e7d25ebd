"""Raw CSV files: read once as text, checked row by row, cut into splits."""

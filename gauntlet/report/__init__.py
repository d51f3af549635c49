"""Reports: measurements come in; pictures, HTML, Markdown, JSON and terminal tables go out."""

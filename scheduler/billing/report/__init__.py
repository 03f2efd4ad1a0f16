"""The usage statement of a month: one document in HTML, Markdown, JSON, CSV and for a spreadsheet."""

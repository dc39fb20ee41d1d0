"""Pages: rendered here, styled and kept fresh by three small files of our own."""

"""Numbers to pictures: grids, animations, plots. All of it returns bytes, arrays or text; nothing writes a result."""

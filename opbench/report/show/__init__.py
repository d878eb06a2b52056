"""What pictures of operators are made of: SVG, an image, its features, weights. What is drawn is an operator's own."""

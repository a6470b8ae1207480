"""What clients see: queries in, answers and problems out, and the document that describes them."""

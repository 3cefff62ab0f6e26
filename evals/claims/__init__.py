"""Claims about scores: what is known of them, the verdict rule, a card's own arithmetic, published rows."""

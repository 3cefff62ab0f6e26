"""Claims about scores: their known circumstances, the verdict rule, arithmetic checks of a card, published rows."""

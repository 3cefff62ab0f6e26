"""`python -m recipes.merge`: the mergekit process."""

from recipes.merge.engine import main

if __name__ == "__main__":
    main()

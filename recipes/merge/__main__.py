"""`python -m recipes.merge`: the mergekit process."""

from recipes.merge.mergekit_worker import main

if __name__ == "__main__":
    main()

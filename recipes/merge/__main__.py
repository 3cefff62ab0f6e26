"""Entry point of the mergekit process: `python -m recipes.merge`."""

from recipes.merge.mergekit_worker import main

if __name__ == "__main__":
    main()

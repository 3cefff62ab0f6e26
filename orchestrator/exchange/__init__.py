"""Import of results from other tools; export of scores and samples as Parquet."""

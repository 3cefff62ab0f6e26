"""Results made elsewhere, in; scores and samples as Parquet, out."""

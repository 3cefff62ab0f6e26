"""HTML components of the pages; foreign text reaches the browser as data or escaped, never as markup."""

"""HTTP client of the vendors' providers: connection pool, proxies, content codings."""

"""A folder of run documents as one page that needs no network: index.html, with everything inside it."""

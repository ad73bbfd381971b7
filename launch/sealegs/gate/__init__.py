"""`sealegs gate`: reads bags, measures what needs learning (off-policy values), and draws the report."""

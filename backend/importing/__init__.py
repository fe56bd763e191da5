"""From a file of cases to rows of ad_cases."""

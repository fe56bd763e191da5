"""The cases of ad_cases as the front end reads them."""

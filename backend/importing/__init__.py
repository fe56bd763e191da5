"""Imports a file of cases into the table ad_cases."""

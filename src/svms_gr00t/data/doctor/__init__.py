"""A dataset's doctor: finds what would make training fail, learn something false, or crawl."""

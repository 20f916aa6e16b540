"""Revisions, oldest first. What has been released is never edited."""

"""Impressions and what users did then -> the topic `examples`: labelled lists."""

"""The objectives of the stages of training: networks and losses."""

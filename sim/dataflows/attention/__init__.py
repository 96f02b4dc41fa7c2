"""The attention dataflows, one file each, readable as the loop nest that each is."""

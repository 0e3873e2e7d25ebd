"""From raw log rows to encoded batches; each package imports only those before it.

log → storage → raw → features → input, synthetic, hub.
"""

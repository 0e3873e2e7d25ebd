"""From raw log rows to encoded batches: schema, normalisation, feature map, generated log."""

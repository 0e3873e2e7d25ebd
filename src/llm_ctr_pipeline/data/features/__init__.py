"""Which value has which id: vocabulary, feature map, encoded splits."""

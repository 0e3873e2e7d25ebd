"""The columns of Avazu's raw files, which the generated log has too."""

AVAZU_FIELDS: tuple[str, ...] = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{number}" for number in range(14, 22)),
)
AVAZU_COLUMNS: tuple[str, ...] = ("id", "click", "hour", *AVAZU_FIELDS)

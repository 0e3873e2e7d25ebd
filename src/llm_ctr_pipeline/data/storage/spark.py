"""What Spark needs besides: text from CSV files, and row numbers, which Spark does not have."""

import shutil
from collections.abc import Mapping
from typing import Any

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.log.schema import QUOTE, ROW
from llm_ctr_pipeline.data.storage.store_path import AnyPath, remove


def spark_session(settings: Mapping[str, Any]) -> Any:
    """Start Spark, or take the session that runs already, as on a cluster.

    Raises:
        SettingsError: If PySpark is not installed, or Java does not start.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            "preprocessing on Spark needs PySpark and Java 17 or newer: "
            'pip install -c constraints.txt -e ".[spark]"'
        ) from error
    # A row of the wrong width is seen only where every column is read.
    builder = SparkSession.builder.config("spark.sql.csv.parser.columnPruning.enabled", "false")
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise SettingsError(
            "Spark could not start Java, of which it needs version 17 or newer: install it, and "
            "let JAVA_HOME or PATH name it"
        ) from error


def convert_csv_with_spark(
    connection: BaseBackend,
    source: AnyPath,
    target: AnyPath,
    columns: list[str],
    kept: list[str],
    options: Mapping[str, Any],
) -> None:
    """Write some columns of a CSV file to a folder of Parquet, with each row's position.

    See `csv_to_parquet.convert_csv`. With the option `multiLine` a cell may hold a line break, and
    one task reads the whole file.
    """
    from pyspark.sql import functions as spark_functions
    from pyspark.sql import types

    session = connection._session
    schema = types.StructType([types.StructField(name, types.StringType()) for name in columns])
    read = (
        session.read.schema(schema)
        .options(**options)
        .option("quote", QUOTE)
        .option("escape", QUOTE)
        .option("encoding", "UTF-8")
        .option("mode", "FAILFAST")
        .option("emptyValue", "")
        .option("nullValue", "\0")
        .option("maxCharsPerColumn", -1)
        .csv(str(source))
        # An unquoted empty cell is null, whatever the options say.
        .na.fill("")
    )
    numbered = _numbered(read, spark_functions)
    numbered.select(*kept, ROW).write.mode("overwrite").parquet(str(target))


def write_csv_with_spark(connection: BaseBackend, table: ir.Table, path: AnyPath) -> None:
    """Write a table to one CSV file: many tasks write parts of it, which are put together here.

    See `engine.write_csv`.
    """
    folder = path.parent / f"{path.name}-parts"
    rows = connection.raw_sql(connection.compile(table))
    rows.write.mode("overwrite").option("header", "false").csv(str(folder))
    parts: list[AnyPath] = [*folder.glob("part-*.csv")]
    with path.open("wb") as file:
        file.write(f"{','.join(table.columns)}\n".encode())
        for part in sorted(parts, key=str):
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)
    remove(folder)


def _numbered(rows: Any, functions: Any) -> Any:
    """Number rows in the order of their partitions, which is that of the file."""
    # Spark's id of a row is (partition << 33) + its place in the partition.
    rows = rows.withColumn("_id", functions.monotonically_increasing_id())
    place = functions.col("_id").bitwiseAND(functions.lit((1 << 33) - 1))
    part = functions.shiftright("_id", 33).cast("int")
    sizes = {
        row["part"]: row["count"] for row in rows.groupBy(part.alias("part")).count().collect()
    }
    starts, start = [], 0
    for number in sorted(sizes):
        starts += [functions.lit(number), functions.lit(start).cast("bigint")]
        start += sizes[number]
    if not starts:
        return rows.withColumn(ROW, functions.lit(0).cast("bigint"))
    return rows.withColumn(ROW, place + functions.create_map(*starts)[part])

//! Rows into a Parquet file, a row group at a time.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{BoolType, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::parser::parse_message_type,
};
use serde_json::Value;

use crate::{
    ExportError,
    error::Attempt,
    shape::Shape,
    shred::{self, Column, Values},
};

/// Of one row group: what is held in memory until it is written.
const ROWS: usize = 8192;

pub(crate) struct Writer<'a> {
    path: PathBuf,
    shape: &'a Shape,
    columns: Vec<Column>,
    rows: usize,
    file: SerializedFileWriter<File>,
}

impl<'a> Writer<'a> {
    pub(crate) fn create(path: &Path, shape: &'a Shape) -> Result<Self, ExportError> {
        let failed = |why| failed(path, &why);
        let schema = Arc::new(parse_message_type(&shape.schema()).map_err(failed)?);
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_created_by(concat!("understudy ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = File::create_new(path).attempt("create", path)?;
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        let columns = shred::columns(shape);
        Ok(Self { path: path.to_owned(), shape, columns, rows: 0, file })
    }

    pub(crate) fn add(&mut self, row: &Value) -> Result<(), ExportError> {
        shred::shred(self.shape, row, &mut self.columns)?;
        self.rows += 1;
        if self.rows == ROWS { self.write_group() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Result<(), ExportError> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.file.close().map(drop).map_err(|why| failed(&self.path, &why))
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let mut write = || -> Result<(), ParquetError> {
            let mut group = self.file.next_row_group()?;
            for column in &self.columns {
                let writer = group
                    .next_column()?
                    .ok_or_else(|| ParquetError::General("fewer columns than leaves".to_owned()))?;
                write_column(writer, column)?;
            }
            group.close().map(drop)
        };
        write().map_err(|why| failed(&self.path, &why))?;
        self.columns.iter_mut().for_each(Column::clear);
        self.rows = 0;
        Ok(())
    }
}

fn write_column(
    mut writer: SerializedColumnWriter<'_>,
    column: &Column,
) -> Result<(), ParquetError> {
    let levels = (Some(&column.definitions[..]), Some(&column.repetitions[..]));
    match &column.values {
        Values::Bytes(values, _) => {
            writer.typed::<ByteArrayType>().write_batch(values, levels.0, levels.1)
        }
        Values::Integers(values) => {
            writer.typed::<Int64Type>().write_batch(values, levels.0, levels.1)
        }
        Values::Numbers(values) => {
            writer.typed::<DoubleType>().write_batch(values, levels.0, levels.1)
        }
        Values::Truths(values) => {
            writer.typed::<BoolType>().write_batch(values, levels.0, levels.1)
        }
    }?;
    writer.close()
}

fn failed(path: &Path, why: &ParquetError) -> ExportError {
    ExportError::Parquet { path: path.to_owned(), why: why.to_string() }
}

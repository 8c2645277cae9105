//! A segment as a Parquet file: one row group, a row a sample, the columns of `docs/segments.md`.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use parquet::basic::{
    Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel,
};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::domain::account::{AccountId, S3Uid};
use crate::domain::client::ClientId;
use crate::domain::usage::{OwnCalls, RequestClasses, Sample};

/// Why a segment cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Parquet's own reason.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// A value outside its column's range.
    #[error("column {0}: a value out of range")]
    OutOfRange(&'static str),
    /// A column that a segment must have.
    #[error("column {0} is missing, or has another number of rows")]
    Missing(&'static str),
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Instant,
    Number,
    Flag,
}

/// A column of figures, and what it takes of a sample.
type Figure = (&'static str, fn(&Sample) -> Option<u64>);

/// The start of the hour. It is not called `hour`: the path has that name for the hour of the day, and readers that find columns in paths
/// would take the one for the other.
const STARTS_AT: &str = "starts_at";
/// The same, as earlier versions called it.
const STARTS_AT_FORMERLY: &str = "hour";

/// The optional columns, in the order of the file. Earlier versions wrote the first seven, later ones the first fourteen.
const FIGURES: [Figure; 16] = [
    ("stored_bytes", |sample| sample.stored_bytes),
    ("objects", |sample| sample.objects),
    ("noncurrent_bytes", |sample| sample.noncurrent_bytes),
    ("multipart_bytes", |sample| sample.multipart_bytes),
    ("bytes_sent", |sample| sample.bytes_sent),
    ("bytes_received", |sample| sample.bytes_received),
    ("requests", |sample| sample.requests),
    ("requests_get", |sample| Some(sample.classes?.get)),
    ("requests_put", |sample| Some(sample.classes?.put)),
    ("requests_list", |sample| Some(sample.classes?.list)),
    ("requests_delete", |sample| Some(sample.classes?.delete)),
    ("requests_other", |sample| Some(sample.classes?.other)),
    ("own_bytes_sent", |sample| Some(sample.own?.bytes_sent)),
    ("own_requests", |sample| Some(sample.own?.requests)),
    ("account_id", |sample| Some(sample.account_id?.0)),
    ("client_id", |sample| Some(sample.client_id?.0)),
];

/// The columns, in the order of the file.
fn columns(
    starts_at: &'static str,
    figures: &[Figure],
) -> impl Iterator<Item = (&'static str, Kind, Repetition)> {
    use Kind::{Flag, Instant, Number, Text};
    const REQUIRED: Repetition = Repetition::REQUIRED;
    const OPTIONAL: Repetition = Repetition::OPTIONAL;
    let figures = figures.iter().map(|(name, _)| (*name, Number, OPTIONAL));
    [
        ("s3uid", Text, REQUIRED),
        ("bucket_name", Text, REQUIRED),
        (starts_at, Instant, REQUIRED),
    ]
    .into_iter()
    .chain(figures)
    .chain([
        ("is_reset", Flag, REQUIRED),
        ("collected_at", Instant, REQUIRED),
    ])
}

fn schema(starts_at: &'static str, figures: &[Figure]) -> Result<TypePtr, ParquetError> {
    let fields = columns(starts_at, figures)
        .map(|(name, kind, repetition)| {
            let (physical, logical) = match kind {
                Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
                Kind::Instant => (
                    PhysicalType::INT64,
                    Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
                ),
                Kind::Number => (PhysicalType::INT64, None),
                Kind::Flag => (PhysicalType::BOOLEAN, None),
            };
            Type::primitive_type_builder(name, physical)
                .with_logical_type(logical)
                .with_repetition(repetition)
                .build()
                .map(Arc::new)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("sample")
        .with_fields(fields)
        .build()
        .map(Arc::new)
}

/// Samples as a file.
///
/// # Errors
/// When a figure is above 2^63 - 1.
pub fn encode(samples: &[Sample], collected_at: Timestamp) -> Result<Vec<u8>, FileError> {
    encode_columns(samples, collected_at, STARTS_AT, &FIGURES)
}

fn encode_columns(
    samples: &[Sample],
    collected_at: Timestamp,
    starts_at: &'static str,
    figures: &[Figure],
) -> Result<Vec<u8>, FileError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("wharfage".into())
        .build();
    let schema = schema(starts_at, figures)?;
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    write::<ByteArrayType>(
        &mut rows,
        &texts(samples, |sample| sample.s3uid.as_str()),
        None,
    )?;
    write::<ByteArrayType>(
        &mut rows,
        &texts(samples, |sample| &sample.bucket_name),
        None,
    )?;
    let hours: Vec<i64> = samples
        .iter()
        .map(|sample| sample.hour.as_millisecond())
        .collect();
    write::<Int64Type>(&mut rows, &hours, None)?;
    for (name, figure) in figures {
        let figures = samples.iter().map(|sample| {
            figure(sample)
                .map(|figure| signed(name, figure))
                .transpose()
        });
        write_optional(&mut rows, &figures.collect::<Result<Vec<_>, _>>()?)?;
    }
    let resets: Vec<bool> = samples.iter().map(|sample| sample.is_reset).collect();
    write::<BoolType>(&mut rows, &resets, None)?;
    write::<Int64Type>(
        &mut rows,
        &vec![collected_at.as_millisecond(); samples.len()],
        None,
    )?;
    rows.close()?;
    Ok(file.into_inner()?)
}

fn signed(column: &'static str, figure: u64) -> Result<i64, FileError> {
    i64::try_from(figure).map_err(|_| FileError::OutOfRange(column))
}

fn texts(samples: &[Sample], text: fn(&Sample) -> &str) -> Vec<ByteArray> {
    samples
        .iter()
        .map(|sample| ByteArray::from(text(sample)))
        .collect()
}

fn write<T: DataType>(
    rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    definition_levels: Option<&[i16]>,
) -> Result<(), FileError> {
    let mut column = rows
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
    column
        .typed::<T>()
        .write_batch(values, definition_levels, None)?;
    Ok(column.close()?)
}

fn write_optional(
    rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    figures: &[Option<i64>],
) -> Result<(), FileError> {
    let levels: Vec<i16> = figures
        .iter()
        .map(|figure| i16::from(figure.is_some()))
        .collect();
    let values: Vec<i64> = figures.iter().copied().flatten().collect();
    write::<Int64Type>(rows, &values, Some(&levels))
}

/// The samples of a file.
///
/// # Errors
/// When it is not a segment.
pub fn decode(file: Bytes) -> Result<Vec<Sample>, FileError> {
    let file = SerializedFileReader::new(file)?;
    let mut samples = Vec::new();
    for group in 0..file.num_row_groups() {
        let rows = Rows::of(file.get_row_group(group)?)?;
        let mut s3uids = rows.texts("s3uid")?.into_iter();
        let mut bucket_names = rows.texts("bucket_name")?.into_iter();
        let starts_at = match rows.has(STARTS_AT) {
            true => STARTS_AT,
            false => STARTS_AT_FORMERLY,
        };
        let hours = rows.required(starts_at)?;
        let figure = |name| rows.optional(name);
        let (stored_bytes, objects) = (figure("stored_bytes")?, figure("objects")?);
        let (noncurrent_bytes, multipart_bytes) =
            (figure("noncurrent_bytes")?, figure("multipart_bytes")?);
        let (bytes_sent, bytes_received) = (figure("bytes_sent")?, figure("bytes_received")?);
        let requests = figure("requests")?;
        // Segments of earlier versions have none of these.
        let later = |name| rows.later(name);
        let (gets, puts) = (later("requests_get")?, later("requests_put")?);
        let (lists, deletes) = (later("requests_list")?, later("requests_delete")?);
        let others = later("requests_other")?;
        let (own_bytes_sent, own_requests) = (later("own_bytes_sent")?, later("own_requests")?);
        let (account_ids, client_ids) = (later("account_id")?, later("client_id")?);
        let resets = rows.flags("is_reset")?;
        samples.reserve(rows.count);
        for row in 0..rows.count {
            samples.push(Sample {
                s3uid: S3Uid(s3uids.next().ok_or(FileError::Missing("s3uid"))?),
                account_id: account_ids[row].map(AccountId),
                client_id: client_ids[row].map(ClientId),
                bucket_name: bucket_names
                    .next()
                    .ok_or(FileError::Missing("bucket_name"))?,
                hour: Timestamp::from_millisecond(hours[row])
                    .map_err(|_| FileError::OutOfRange(starts_at))?,
                stored_bytes: stored_bytes[row],
                objects: objects[row],
                noncurrent_bytes: noncurrent_bytes[row],
                multipart_bytes: multipart_bytes[row],
                bytes_sent: bytes_sent[row],
                bytes_received: bytes_received[row],
                requests: requests[row],
                classes: gets[row].map(|get| RequestClasses {
                    get,
                    put: puts[row].unwrap_or(0),
                    list: lists[row].unwrap_or(0),
                    delete: deletes[row].unwrap_or(0),
                    other: others[row].unwrap_or(0),
                }),
                own: own_requests[row].map(|requests| OwnCalls {
                    bytes_sent: own_bytes_sent[row].unwrap_or(0),
                    requests,
                }),
                is_reset: resets[row],
            });
        }
    }
    Ok(samples)
}

/// A row group, its columns found by their names: a column added later disturbs nobody.
struct Rows<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    count: usize,
}

impl<'a> Rows<'a> {
    fn of(group: Box<dyn RowGroupReader + 'a>) -> Result<Rows<'a>, FileError> {
        let count = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::General("a negative number of rows".into()))?;
        Ok(Rows { group, count })
    }

    /// A column's values that are there, and for each row whether it has one.
    fn column<T: DataType>(
        &self,
        name: &'static str,
        physical: PhysicalType,
    ) -> Result<(Vec<T::T>, Vec<bool>), FileError> {
        let columns = self.group.metadata().columns();
        let index = columns
            .iter()
            .position(|column| {
                column.column_path().string() == name && column.column_type() == physical
            })
            .ok_or(FileError::Missing(name))?;
        let mut reader = get_typed_column_reader::<T>(self.group.get_column_reader(index)?);
        let is_optional = columns[index].column_descr().max_def_level() > 0;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut read = 0;
        while read < self.count {
            let (records, ..) = reader.read_records(
                self.count - read,
                is_optional.then_some(&mut levels),
                None,
                &mut values,
            )?;
            if records == 0 {
                return Err(FileError::Missing(name));
            }
            read += records;
        }
        let present = if is_optional {
            levels.iter().map(|level| *level > 0).collect()
        } else {
            vec![true; self.count]
        };
        Ok((values, present))
    }

    fn texts(&self, name: &'static str) -> Result<Vec<String>, FileError> {
        let (values, _) = self.column::<ByteArrayType>(name, PhysicalType::BYTE_ARRAY)?;
        values
            .iter()
            .map(|value| Ok(value.as_utf8()?.to_owned()))
            .collect()
    }

    fn required(&self, name: &'static str) -> Result<Vec<i64>, FileError> {
        let (values, _) = self.column::<Int64Type>(name, PhysicalType::INT64)?;
        if values.len() == self.count {
            Ok(values)
        } else {
            Err(FileError::Missing(name))
        }
    }

    fn optional(&self, name: &'static str) -> Result<Vec<Option<u64>>, FileError> {
        let (values, present) = self.column::<Int64Type>(name, PhysicalType::INT64)?;
        let mut values = values.into_iter();
        present
            .into_iter()
            .map(|is_present| {
                if !is_present {
                    return Ok(None);
                }
                let value = values.next().ok_or(FileError::Missing(name))?;
                u64::try_from(value)
                    .map(Some)
                    .map_err(|_| FileError::OutOfRange(name))
            })
            .collect()
    }

    /// Like [`Self::optional`], of a column that earlier versions did not write.
    fn later(&self, name: &'static str) -> Result<Vec<Option<u64>>, FileError> {
        match self.has(name) {
            true => self.optional(name),
            false => Ok(vec![None; self.count]),
        }
    }

    fn has(&self, name: &str) -> bool {
        let mut columns = self.group.metadata().columns().iter();
        columns.any(|column| column.column_path().string() == name)
    }

    fn flags(&self, name: &'static str) -> Result<Vec<bool>, FileError> {
        let (values, _) = self.column::<BoolType>(name, PhysicalType::BOOLEAN)?;
        if values.len() == self.count {
            Ok(values)
        } else {
            Err(FileError::Missing(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const MOST: u64 = i64::MAX as u64;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    prop_compose! {
        fn sample()(
            s3uid in "[A-Za-z0-9]{32}",
            (account_id, client_id) in (option::of(0..=MOST), option::of(0..=MOST)),
            bucket_name in "[a-z0-9.-]{0,63}",
            hour in 0i64..1_000_000,
            (stored_bytes, objects) in (option::of(0..=MOST), option::of(0..=MOST)),
            (noncurrent_bytes, multipart_bytes) in (option::of(0..=MOST), option::of(0..=MOST)),
            (bytes_sent, bytes_received, requests) in (option::of(0..=MOST), option::of(0..=MOST), option::of(0..=MOST)),
            classes in option::of([0..=MOST, 0..=MOST, 0..=MOST, 0..=MOST, 0..=MOST]),
            own in option::of((0..=MOST, 0..=MOST)),
            is_reset in any::<bool>(),
        ) -> Sample {
            Sample {
                s3uid: S3Uid(s3uid), account_id: account_id.map(AccountId), client_id: client_id.map(ClientId), bucket_name, hour: at(hour * 3_600), stored_bytes, objects, noncurrent_bytes, multipart_bytes,
                bytes_sent, bytes_received, requests, is_reset,
                classes: classes.map(|[get, put, list, delete, other]| RequestClasses { get, put, list, delete, other }),
                own: own.map(|(bytes_sent, requests)| OwnCalls { bytes_sent, requests }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(samples in vec(sample(), 0..40)) {
            let file = encode(&samples, at(1_000)).expect("encoded");
            prop_assert_eq!(decode(file.into()).expect("decoded"), samples);
        }

        #[test]
        fn what_is_no_segment_is_an_error(mut file in vec(any::<u8>(), 0..200), is_magic in any::<bool>()) {
            if is_magic {
                file.splice(0..0, *b"PAR1");
                file.extend(*b"PAR1");
            }
            prop_assert!(decode(file.into()).is_err());
        }
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read_without_what_it_did_not_know() {
        let sample = Sample {
            s3uid: S3Uid("a".into()),
            account_id: Some(AccountId(8)),
            client_id: Some(ClientId(9)),
            bucket_name: "b".into(),
            hour: at(3_600),
            stored_bytes: Some(1_000),
            objects: Some(2),
            bytes_sent: Some(70),
            bytes_received: Some(4),
            requests: Some(5),
            classes: Some(RequestClasses {
                get: 5,
                ..RequestClasses::default()
            }),
            own: Some(OwnCalls {
                bytes_sent: 7,
                requests: 1,
            }),
            ..Sample::default()
        };
        let earlier = |figures: &[Figure]| {
            let samples = std::slice::from_ref(&sample);
            let file = encode_columns(samples, at(7_500), STARTS_AT_FORMERLY, figures);
            decode(file.expect("encoded").into()).expect("decoded")
        };
        let with_own_calls = Sample {
            account_id: None,
            client_id: None,
            ..sample.clone()
        };
        assert_eq!(
            earlier(&FIGURES[..14]),
            std::slice::from_ref(&with_own_calls)
        );
        let first = Sample {
            classes: None,
            own: None,
            ..with_own_calls
        };
        let read = earlier(&FIGURES[..7]);
        assert_eq!(read, [first]);
        assert_eq!(read[0].moved().bytes_sent, 70);
    }

    /// As an installation that is updated has it in its bucket: the release before wrote it.
    #[test]
    fn a_file_that_the_version_before_wrote_is_read() {
        let file = Bytes::from_static(include_bytes!("former.parquet"));
        let hour: Timestamp = "2026-01-15T11:00:00Z".parse().expect("time");
        let quiet = Sample {
            s3uid: S3Uid("rNamFzaEWnStOOByjSSNofy0vtHAUm64".into()),
            bucket_name: "quiet-bucket".into(),
            hour,
            stored_bytes: Some(0),
            objects: Some(0),
            noncurrent_bytes: Some(0),
            multipart_bytes: Some(0),
            bytes_sent: Some(0),
            bytes_received: Some(0),
            requests: Some(0),
            ..Sample::default()
        };
        let busy = Sample {
            s3uid: S3Uid("6Rgo6DXeGvpO4OrHxEFvRkrGZhSTeLXi".into()),
            bucket_name: "first-bucket".into(),
            stored_bytes: Some(70_000),
            objects: Some(1),
            bytes_sent: Some(70_460),
            bytes_received: Some(70_000),
            requests: Some(3),
            classes: Some(RequestClasses {
                get: 1,
                put: 1,
                list: 1,
                ..RequestClasses::default()
            }),
            own: Some(OwnCalls {
                bytes_sent: 460,
                requests: 1,
            }),
            ..quiet.clone()
        };
        assert_eq!(decode(file).expect("decoded"), [busy, quiet]);
    }

    #[test]
    fn no_column_has_a_name_that_the_path_has() {
        let key = crate::segments::SegmentKey {
            location: "NL".into(),
            hour: at(0),
            shard: 0,
        };
        let key = key.to_string();
        let of_path: Vec<&str> = key
            .split('/')
            .filter_map(|part| Some(part.split_once('=')?.0))
            .collect();
        assert_eq!(of_path, ["location", "date", "hour"]);
        let file = encode(&[], at(0)).expect("encoded");
        let file = SerializedFileReader::new(Bytes::from(file)).expect("a file");
        let schema = file.metadata().file_metadata().schema_descr();
        assert_eq!(schema.num_columns(), 21);
        for column in schema.columns() {
            assert!(!of_path.contains(&column.name()), "{}", column.name());
        }
    }

    #[test]
    fn an_empty_segment_is_a_file_too() {
        let file = encode(&[], at(0)).expect("encoded");
        assert_eq!(decode(file.into()).expect("decoded"), []);
    }

    #[test]
    fn a_thousand_accounts_are_a_small_file() {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        // As random as real ones are: they do not compress.
        let name = |account: u64| -> String {
            let mut state = account + 1;
            let mut letter = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(LETTERS[(state >> 33) as usize % LETTERS.len()])
            };
            (0..32).map(|_| letter()).collect()
        };
        let samples: Vec<Sample> = (0..1_000u64)
            .map(|account| Sample {
                s3uid: S3Uid(name(account)),
                account_id: Some(AccountId(account)),
                client_id: Some(ClientId(account / 3)),
                bucket_name: format!("bucket-{account}"),
                hour: at(3_600),
                stored_bytes: Some(account << 30),
                objects: Some(account),
                noncurrent_bytes: Some(0),
                multipart_bytes: Some(0),
                bytes_sent: Some(0),
                bytes_received: Some(0),
                requests: Some(0),
                classes: Some(RequestClasses::default()),
                ..Sample::default()
            })
            .collect();
        let file = encode(&samples, at(7_200)).expect("encoded");
        assert!(file.len() < 50_000, "{}", file.len());
        assert_eq!(decode(file.into()).expect("decoded"), samples);
    }

    #[test]
    fn a_figure_that_does_not_fit_is_refused() {
        let sample = Sample {
            s3uid: S3Uid("a".into()),
            stored_bytes: Some(u64::MAX),
            ..Sample::default()
        };
        let refused = encode(&[sample], at(0)).expect_err("too large");
        assert_eq!(
            refused.to_string(),
            "column stored_bytes: a value out of range"
        );
    }
}

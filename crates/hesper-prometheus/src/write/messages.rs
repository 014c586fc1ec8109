//! The protobuf messages of remote write, 1.0 (`prometheus.WriteRequest`) and 2.0-rc.4 (`io.prometheus.write.v2.Request`): the fields
//! that a sender of cumulative data fills.

use prost::Message;

/// <https://prometheus.io/docs/specs/prw/remote_write_spec/>
pub mod v1 {
    use super::{Histogram, Message};

    /// `prometheus.WriteRequest`
    #[derive(Clone, PartialEq, Message)]
    pub struct WriteRequest {
        /// Series with samples.
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        /// What is known of families.
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<MetricMetadata>,
    }

    /// A series.
    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        /// Sorted by name.
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        /// Sorted by time.
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        /// Sorted by time.
        #[prost(message, repeated, tag = "3")]
        pub exemplars: Vec<Exemplar>,
        /// Native ones.
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }

    /// A label.
    #[derive(Clone, PartialEq, Eq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    /// A number.
    #[derive(Clone, Copy, PartialEq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        /// ms since 1970
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }

    /// One measurement.
    #[derive(Clone, PartialEq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub timestamp: i64,
    }

    /// What is known of a family.
    #[derive(Clone, PartialEq, Eq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct MetricMetadata {
        /// 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 histogram of gauges, 5 summary, 6 info, 7 state set
        #[prost(int32, tag = "1")]
        pub r#type: i32,
        #[prost(string, tag = "2")]
        pub metric_family_name: String,
        #[prost(string, tag = "4")]
        pub help: String,
        #[prost(string, tag = "5")]
        pub unit: String,
    }
}

/// <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>. Texts are numbers of `symbols`, whose first is empty.
pub mod v2 {
    use super::{Histogram, Message};

    /// `io.prometheus.write.v2.Request`
    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        /// Every text, once.
        #[prost(string, repeated, tag = "4")]
        pub symbols: Vec<String>,
        /// Series with samples.
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }

    /// A series.
    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        /// Names and values, sorted by name.
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        /// Sorted by time.
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        /// Native ones; never beside samples.
        #[prost(message, repeated, tag = "3")]
        pub histograms: Vec<Histogram>,
        /// Sorted by time.
        #[prost(message, repeated, tag = "4")]
        pub exemplars: Vec<Exemplar>,
        /// What is known of it.
        #[prost(message, optional, tag = "5")]
        pub metadata: Option<Metadata>,
    }

    /// A number.
    #[derive(Clone, Copy, PartialEq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        /// ms since 1970
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
        /// When counting began; 0 is not known.
        #[prost(int64, tag = "3")]
        pub start_timestamp: i64,
    }

    /// One measurement.
    #[derive(Clone, PartialEq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Exemplar {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub value: f64,
        #[prost(int64, tag = "3")]
        pub timestamp: i64,
    }

    /// What is known of a series.
    #[derive(Clone, Copy, PartialEq, Eq, Message)]
    #[expect(missing_docs, reason = "the names say it")]
    pub struct Metadata {
        /// The numbers of 1.0.
        #[prost(int32, tag = "1")]
        pub r#type: i32,
        #[prost(uint32, tag = "3")]
        pub help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub unit_ref: u32,
    }
}

/// A native histogram with whole counts; the same bytes in both versions (1.0 has no field 17, and skips it).
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// How many there are in all.
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    /// Of all.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// The resolution: −4 to 8.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// What is no further from zero is in the bucket of zero.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// The bucket of zero.
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    /// Which buckets below zero there are.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// How much each has more than the one before.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Which buckets above zero there are.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// How much each has more than the one before.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// 0: the receiver finds out whether counting began again.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// ms since 1970
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// When counting began; 0 is not known.
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

/// Consecutive buckets.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Behind the span before; of the first: its number.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

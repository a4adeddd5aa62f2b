//! The settings of the commands that decode a local drop: `decode` and `attributes preview`.

use std::num::NonZeroUsize;

use super::{
    InvalidSettings, Settings,
    parse::ByteSize,
    reader::Reader,
    row_columns,
    tenant_settings::{decoders, file_rules},
};
use crate::{keys::unwrap::KeyWrap, pipeline::FileRules};

/// The settings that the command `decode` needs: how files are decoded, and how keys are unwrapped.
#[derive(Debug)]
pub struct DecodeConfig {
    /// How files are decoded.
    pub rules: FileRules,
    /// `BAD_ROWS_ALLOWED`.
    pub bad_rows_allowed: u64,
    /// `KEY_WRAP`.
    pub key_wrap: KeyWrap,
    /// `DECODERS`.
    pub decoders: NonZeroUsize,
    /// Recommended changes of settings that are usable, one sentence each. They contain no values.
    pub warnings: Vec<String>,
}

impl DecodeConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let (settings, warning) = &row_columns::rename(settings);
        let reader = Reader::new(settings);
        let rules = file_rules(&reader);
        let bad_rows_allowed = reader.or_default("BAD_ROWS_ALLOWED", "0");
        let key_wrap = reader.or_default("KEY_WRAP", "auto");
        let decoders = decoders(&reader);
        reader.finish(|| {
            Some(Self {
                rules: rules?,
                bad_rows_allowed: bad_rows_allowed?,
                key_wrap: key_wrap?,
                decoders: decoders?,
                warnings: warning.iter().cloned().collect(),
            })
        })
    }

    /// Logs the warnings about these settings.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// The settings that `attributes preview` needs.
#[derive(Debug)]
pub struct PreviewConfig {
    /// The settings for decoding.
    pub decode: DecodeConfig,
    /// `ATTRIBUTES_MEMORY`: the bound of the table of people, in bytes.
    pub attributes_memory: usize,
}

impl PreviewConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let memory = attributes_memory(&reader);
        match (DecodeConfig::read(settings), reader.finish(|| memory)) {
            (Ok(decode), Ok(attributes_memory)) => Ok(Self { decode, attributes_memory }),
            (decode, memory) => {
                let problems = [decode.err(), memory.err()].into_iter().flatten();
                Err(InvalidSettings(problems.flat_map(|InvalidSettings(problems)| problems).collect()))
            }
        }
    }
}

/// `ATTRIBUTES_MEMORY` in bytes.
pub(super) fn attributes_memory(reader: &Reader<'_>) -> Option<usize> {
    let size: Option<ByteSize> = reader.or_default("ATTRIBUTES_MEMORY", "256MiB");
    size.map(|ByteSize(bytes)| bytes)
}

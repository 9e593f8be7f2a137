//! How an answer, or why there is none, is written in JSON: `{"answer": …}` or `{"failure": …}`, as no reader but a
//! Rust program expects `Ok` and `Err`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reading::Symptom;

/// The form of one answer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Written<T> {
    /// What was answered.
    Answer(T),
    /// Why nothing was.
    Failure(Symptom),
}

impl<T> From<Written<T>> for Result<T, Symptom> {
    fn from(written: Written<T>) -> Self {
        match written {
            Written::Answer(answer) => Ok(answer),
            Written::Failure(symptom) => Err(symptom),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Borrowed<'w, T> {
    Answer(&'w T),
    Failure(&'w Symptom),
}

impl<'w, T> From<&'w Result<T, Symptom>> for Borrowed<'w, T> {
    fn from(result: &'w Result<T, Symptom>) -> Self {
        match result {
            Ok(answer) => Self::Answer(answer),
            Err(symptom) => Self::Failure(symptom),
        }
    }
}

/// For `serde(with)`: one answer.
pub mod one {
    use super::*;

    pub fn serialize<T: Serialize, S: Serializer>(
        result: &Result<T, Symptom>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Borrowed::from(result).serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<T, Symptom>, D::Error> {
        Written::deserialize(deserializer).map(Result::from)
    }
}

/// For `serde(with)`: answers of several members, by their ID.
pub mod by_id {
    use super::*;

    pub fn serialize<T: Serialize, S: Serializer>(
        results: &BTreeMap<u64, Result<T, Symptom>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(results.iter().map(|(id, result)| (id, Borrowed::from(result))))
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, Result<T, Symptom>>, D::Error> {
        let written = BTreeMap::<u64, Written<T>>::deserialize(deserializer)?;
        Ok(written.into_iter().map(|(id, written)| (id, written.into())).collect())
    }
}

//! Finds the name that a person has probably meant.

/// The least similarity, between 0 and 1, of a name that is suggested.
const SIMILAR: f64 = 0.6;

/// The one of `names` that is most similar to `name`, if one is similar. Case, spaces and punctuation do not matter.
pub(crate) fn most_similar<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let letters = letters_of(name);
    let similarity = |other: &str| strsim::normalized_damerau_levenshtein(&letters, &letters_of(other));
    let names = names.into_iter().map(|other| (similarity(other), other));
    let similar = names.filter(|(similarity, _)| *similarity >= SIMILAR);
    similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// The letters and digits of a name, in lower case.
pub(crate) fn letters_of(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

//! Decides which counts are withheld, so that no small group can be computed from the published counts.

/// The number of ranges of an attribute.
pub const RANGES: usize = 4;

/// Marks the ranges whose count is withheld, given the number of people in each range.
///
/// Every range with 1 to `min_group_size - 1` people is withheld. Then the smallest other non-empty range is withheld,
/// together with those of the same size, and so on, until at least two ranges are withheld and one of them has
/// `min_group_size` people or more. If no range is left to withhold, all four are withheld. If fewer ranges were
/// withheld, the size of a small group would follow from the published counts and the list of people.
pub fn withheld(people: [u64; RANGES], min_group_size: u64) -> [bool; RANGES] {
    let mut withheld = people.map(|count| (1..min_group_size).contains(&count));
    while withheld.contains(&true) && !hides_small_groups(people, withheld, min_group_size) {
        let published = (0..RANGES).filter(|&range| !withheld[range] && people[range] > 0);
        let Some(smallest) = published.map(|range| people[range]).min() else {
            return [true; RANGES];
        };
        for range in 0..RANGES {
            withheld[range] |= people[range] == smallest;
        }
    }
    withheld
}

/// Whether at least two ranges are withheld, and one of them is not small.
fn hides_small_groups(people: [u64; RANGES], withheld: [bool; RANGES], min_group_size: u64) -> bool {
    let hidden = || (0..RANGES).filter(|&range| withheld[range]);
    hidden().count() >= 2 && hidden().any(|range| people[range] >= min_group_size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_larger_range_is_withheld_with_a_small_one() {
        assert_eq!(withheld([3, 350, 405, 425], 5), [true, true, false, false]);
        assert_eq!(withheld([2, 2, 10, 20], 5), [true, true, true, false]);
        assert_eq!(withheld([0, 3, 9, 9], 5), [false, true, true, true]);
    }

    #[test]
    fn all_is_withheld_if_a_small_range_has_nothing_to_hide_behind() {
        assert_eq!(withheld([0, 0, 0, 4], 5), [true; 4]);
        assert_eq!(withheld([1, 2, 0, 3], 5), [true; 4]);
    }

    #[test]
    fn nothing_is_withheld_if_no_range_is_small() {
        assert_eq!(withheld([5, 0, 5, 1_000], 5), [false; 4]);
        assert_eq!(withheld([0; 4], 5), [false; 4]);
    }

    proptest! {
        /// A reader knows the published counts and how many people are in the withheld ranges together, because the
        /// list of people marks them. The withheld counts must not follow from that: some other split of the same
        /// people among the withheld ranges publishes the same counts.
        #[test]
        fn no_withheld_count_can_be_computed_from_the_published_ones(
            people in prop::array::uniform4(0_u64..9),
            min_group_size in 5_u64..8,
        ) {
            let hidden = withheld(people, min_group_size);
            let small = |range: usize| (1..min_group_size).contains(&people[range]);
            prop_assert!((0..RANGES).all(|range| !small(range) || hidden[range]), "a small range is published");
            let ranges: Vec<usize> = (0..RANGES).filter(|&range| hidden[range]).collect();
            if ranges.is_empty() {
                return Ok(());
            }
            let total: u64 = ranges.iter().map(|&range| people[range]).sum();
            for &range in ranges.iter().filter(|&&range| small(range)) {
                let others = splits(total, &ranges).into_iter().filter(|split| {
                    let mut other = people;
                    ranges.iter().zip(split).for_each(|(&range, &count)| other[range] = count);
                    withheld(other, min_group_size) == hidden && other[range] != people[range]
                });
                prop_assert!(others.count() > 0, "{people:?} shows {} of range {range}", people[range]);
            }
        }
    }

    /// All ways to distribute `total` people among `ranges`.
    fn splits(total: u64, ranges: &[usize]) -> Vec<Vec<u64>> {
        if ranges.len() == 1 {
            return vec![vec![total]];
        }
        let rest = &ranges[1..];
        (0..=total)
            .flat_map(|first| {
                splits(total - first, rest).into_iter().map(move |mut split| {
                    split.insert(0, first);
                    split
                })
            })
            .collect()
    }
}

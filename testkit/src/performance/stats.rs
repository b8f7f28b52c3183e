//! Medians and what lies around them.

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter is below.
    pub low: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            low: at(&sorted, 0.25)?,
            median: at(&sorted, 0.5)?,
            high: at(&sorted, 0.75)?,
        })
    }
}

/// The value that this share of them does not exceed, between two neighbours where need be; `sorted` ascending.
#[must_use]
pub fn at(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let low = place.floor() as usize;
    let (below, above) = (sorted.get(low)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * (place - low as f64))
}

/// Each of ours over theirs of the same round.
#[must_use]
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_median_and_quartiles() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        let expected = Spread {
            low: 2.0,
            median: 3.0,
            high: 4.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(at(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    }
}

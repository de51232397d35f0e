//! Checking signatures, one or many at once, by one rule.
//!
//! A signature (R, s) by the key A over a message M is valid if and only if
//!
//! - A, R and s are what they seem: s is below the group's order, A and R are points of the curve that
//!   are not of small order, and R is written the one canonical way;
//! - `[8]([s]B - [k]A - R) = 0`, where k = SHA-512(R, A, M).
//!
//! The equation is RFC 8032's own (section 5.1.7): "Check the group equation
//! `[8][S]B = [8]R + [8][k]A'`. It's sufficient, but not required, to instead check
//! `[S]B = R + [k]A'`." What is merely sufficient divides the libraries, and rules out batches: points
//! may have a component of order 8, and a sum of many checks can cancel components that single checks
//! would trip over (Chalkias, Garillot, Nikolaenko, "Taming the Many EdDSAs", 2020). The factor 8
//! wipes them all out, so here **a batch is valid exactly if each of its signatures is**, and nodes
//! agree whichever way they checked. The rule is that paper's algorithm 2. It gives what ours needs:
//! nobody but the key's holder makes a signature, not even another one of a signed message, and no
//! signature serves for two messages or two keys. What honest signers make is valid under any of the
//! rules.
//!
//! A batch is one equation: the sum of all, each times a factor that nobody could choose beforehand
//! (Bernstein, Duif, Lange, Schwabe, Yang, "High-speed high-security signatures", 2011, section 5).
//! The factors are 128 bits of a hash over the whole batch, so a wrong sum comes out as zero with a
//! probability of 2^-128, and without chance as an input.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::{Digest, Sha512};

use super::Signature;
use crate::machine::NodeId;

/// That `author` signed `message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// By whose key.
    pub author: &'a NodeId,
    /// What was signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: Signature,
}

/// How a machine checks signatures: [`verify`], or a function that answers exactly as it does.
pub type Verify = fn(&[Claim<'_>]) -> bool;

/// Whether every claim is true. Many at once cost half as much each as one by one.
///
/// ```
/// use quorate_core::identity::{Claim, Identity, verify};
///
/// let alice = Identity::from_seed([1; 32]);
/// let (author, signature) = (&alice.id(), alice.sign(b"hello"));
/// assert!(verify(&[Claim { author, message: b"hello", signature }]));
/// assert!(!verify(&[Claim { author, message: b"hullo", signature }]));
/// ```
#[must_use]
pub fn verify(claims: &[Claim<'_>]) -> bool {
    let sum = match claims {
        [] => return true,
        [claim] => alone(claim),
        _ => together(claims),
    };
    sum.is_some_and(|sum| sum.mul_by_cofactor().is_identity())
}

/// `[s]B - [k]A - R`; `None` where something is not what it seems.
fn alone(claim: &Claim<'_>) -> Option<EdwardsPoint> {
    let Term { r, s, k } = Term::of(claim)?;
    let minus_a = -point(&claim.author.0)?;
    Some(EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &minus_a, &s) - r)
}

/// The sum over `z([k]A + R - [s]B)`, with a factor z for each claim; `None` where something is not
/// what it seems.
fn together(claims: &[Claim<'_>]) -> Option<EdwardsPoint> {
    let terms: Vec<Term> = claims.iter().map(Term::of).collect::<Option<_>>()?;
    let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 signature batch");
    for (claim, term) in claims.iter().zip(&terms) {
        // k is a hash over R, A and M, so this names the claim whole.
        hasher.update(term.k.as_bytes());
        hasher.update(&claim.signature.s);
    }
    let mut factors = hasher.finalize_xof();
    // By author: a chain's signatures share the work on its key.
    let mut keys: BTreeMap<&NodeId, Scalar> = BTreeMap::new();
    let mut base = Scalar::ZERO;
    let mut scalars = Vec::with_capacity(2 * terms.len() + 1);
    let mut points = Vec::with_capacity(2 * terms.len() + 1);
    for (claim, term) in claims.iter().zip(&terms) {
        let mut z = [0; 16];
        factors.fill(&mut z);
        let z = Scalar::from(u128::from_le_bytes(z));
        base -= z * term.s;
        *keys.entry(claim.author).or_insert(Scalar::ZERO) += z * term.k;
        scalars.push(z);
        points.push(term.r);
    }
    for (author, scalar) in keys {
        scalars.push(scalar);
        points.push(point(&author.0)?);
    }
    scalars.push(base);
    points.push(ED25519_BASEPOINT_POINT);
    Some(EdwardsPoint::vartime_multiscalar_mul(&scalars, &points))
}

/// What the equation takes from one claim, its key apart.
struct Term {
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

impl Term {
    fn of(claim: &Claim<'_>) -> Option<Term> {
        let Claim { author, message, signature: Signature { r, s } } = claim;
        let hash = Sha512::new().chain_update(r).chain_update(author.0).chain_update(message);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = Option::from(Scalar::from_canonical_bytes(*s))?;
        Some(Term { r: is_canonical(r).then(|| point(r))??, s, k })
    }
}

/// The point, if it is one, and not of small order.
fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress().filter(|point| !point.is_small_order())
}

/// Whether the coordinate y lies below the field's prime, 2^255 - 19. The other thing that can be
/// written in two ways, the sign of a coordinate x that is zero, is found in points of small order
/// only.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = point;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Identity;

    /// The point's one encoding.
    fn encoded(point: EdwardsPoint) -> [u8; 32] {
        point.compress().0
    }

    /// A signature whose key and R were given components of small order by who made them.
    fn crafted(seed: u8, key: EdwardsPoint, nonce: EdwardsPoint) -> (NodeId, Signature) {
        let (secret, random) = (Scalar::from(1_000 + u64::from(seed)), Scalar::from(77u8));
        let author = NodeId(encoded(EdwardsPoint::mul_base(&secret) + key));
        let r = encoded(EdwardsPoint::mul_base(&random) + nonce);
        let hash = Sha512::new().chain_update(r).chain_update(author.0).chain_update(b"m");
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        (author, Signature { r, s: (random + k * secret).to_bytes() })
    }

    fn each_alone(claims: &[Claim<'_>]) -> bool {
        claims.iter().all(|claim| verify(&[*claim]))
    }

    #[test]
    fn a_weak_key_signs_nothing() {
        // The identity point: with R = identity, s = 0 the equation would hold for any message.
        let mut point = [0; 32];
        point[0] = 1;
        let signature = Signature { r: point, s: [0; 32] };
        assert!(!verify(&[Claim { author: &NodeId(point), message: b"anything", signature }]));
    }

    #[test]
    fn components_of_small_order_never_divide_a_batch_from_its_signatures() {
        let mut made = Vec::new();
        for (seed, key) in (0..).zip(EIGHT_TORSION) {
            made.extend(EIGHT_TORSION.map(|nonce| crafted(seed, key, nonce)));
        }
        let claims: Vec<Claim<'_>> = made
            .iter()
            .map(|(author, signature)| Claim { author, message: b"m", signature: *signature })
            .collect();
        assert!(each_alone(&claims));
        (1..claims.len()).for_each(|len| assert!(verify(&claims[..len]), "{len} at once"));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let alice = Identity::from_seed([1; 32]);
        let (author, message) = (&alice.id(), b"hello");
        let signature = alice.sign(message);
        // s + the group's order.
        let order: [u8; 32] = (-Scalar::ONE).to_bytes();
        let mut carry = 1;
        let s = core::array::from_fn(|at| {
            let sum = u16::from(signature.s[at]) + u16::from(order[at]) + carry;
            carry = sum >> 8;
            sum as u8
        });
        assert!(!verify(&[Claim { author, message, signature: Signature { s, ..signature } }]));
        // 2^255 - 19 + 3 is 3, written the long way; 3 is a coordinate y of the curve.
        let mut three = [0xff; 32];
        (three[0], three[31]) = (0xf0, 0x7f);
        assert!(CompressedEdwardsY(three).decompress().is_some() && !is_canonical(&three));
        let mut last = three;
        last[0] = 0xec;
        assert!(is_canonical(&last) && is_canonical(&signature.r));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_batch_is_valid_exactly_if_each_signature_is(
            signers in proptest::collection::vec(0u8..6, 0..40),
            broken in proptest::option::of((any::<prop::sample::Index>(), 0usize..64 * 8)),
        ) {
            let ids: Vec<Identity> = (0..6).map(|n| Identity::from_seed([n; 32])).collect();
            let ids: Vec<(NodeId, &Identity)> = ids.iter().map(|id| (id.id(), id)).collect();
            let messages: Vec<[u8; 2]> = (0..).zip(&signers).map(|(at, who)| [at, *who]).collect();
            let mut claims: Vec<Claim<'_>> = signers.iter().zip(&messages).map(|(who, message)| {
                let (author, identity) = &ids[usize::from(*who)];
                Claim { author, message, signature: identity.sign(message) }
            }).collect();
            prop_assert!(verify(&claims));
            if let Some((which, bit)) = broken.filter(|_| !claims.is_empty()) {
                let signature = &mut claims[which.index(signers.len())].signature;
                let mut bytes = signature.to_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                *signature = Signature::from_bytes(&bytes);
                prop_assert!(!verify(&claims) && !each_alone(&claims));
            }
        }
    }
}

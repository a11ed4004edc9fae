//! Bytes in JSON: as text where they are UTF-8, else in base64 (RFC 4648, with padding), each in a field of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The bytes as text or, as the error, in base64.
pub fn text_or_base64(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| BASE64.encode(bytes))
}

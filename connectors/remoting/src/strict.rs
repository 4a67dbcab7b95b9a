//! JSON as older brokers and name servers write it: numbers stand as keys without quotes, `{0:"10.0.0.5:10911"}`.

use std::borrow::Cow;

/// `text` with quotes around bare keys; as it is if it has none.
pub fn strict_json(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out: Option<Vec<u8>> = None;
    let (mut in_string, mut escaped, mut before) = (false, false, b' ');
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' {
            in_string = true;
        } else if matches!(before, b'{' | b',')
            && let Some(len) = bare_key(text.get(at..).unwrap_or_default())
        {
            let out = out.get_or_insert_with(|| text.get(..at).unwrap_or_default().to_vec());
            out.push(b'"');
            out.extend_from_slice(text.get(at..at.saturating_add(len)).unwrap_or_default());
            out.push(b'"');
            at = at.saturating_add(len);
            before = b'"';
            continue;
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
        }
        out.iter_mut().for_each(|out| out.push(byte));
        at = at.saturating_add(1);
    }
    out.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// The length of the number that stands before a colon at the start of `text`.
fn bare_key(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
    let colon = text.iter().skip(digits).find(|byte| !byte.is_ascii_whitespace());
    (digits > 0 && colon == Some(&b':')).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_keys_get_quotes() {
        for (text, strict) in [
            (r#"{0:"a",-1 :2}"#, r#"{"0":"a","-1" :2}"#),
            (r#"{"a":{0:1},"b":[1,2,{3:4}]}"#, r#"{"a":{"0":1},"b":[1,2,{"3":4}]}"#),
            (r#"{"a":"{0:1}","b\"{":"x,1:"}"#, r#"{"a":"{0:1}","b\"{":"x,1:"}"#),
            (r#"{"a\\":{7:1}}"#, r#"{"a\\":{"7":1}}"#),
            ("{12", "{12"),
            ("", ""),
        ] {
            assert_eq!(std::str::from_utf8(&strict_json(text.as_bytes())).unwrap(), strict);
        }
        assert!(matches!(strict_json(b"[1,2]"), Cow::Borrowed(_)));
    }
}

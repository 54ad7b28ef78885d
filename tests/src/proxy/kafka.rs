//! The addresses in a broker's answers.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::{Way, pass};

/// Port of a broker, and that of its proxy.
pub(super) type Ports = Vec<(u16, u16)>;

/// Answers with addresses in them are smaller; what is larger holds records.
const REWRITTEN: usize = 256 << 10;

/// Forwards a broker's answers, one after the other, with other ports in them.
pub(super) async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ports: &Ports,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head).await?;
        let mut left = u32::from_be_bytes(head) as usize;
        let mut frame = vec![0; left.min(REWRITTEN)];
        from.read_exact(&mut frame).await?;
        left -= frame.len();
        if left == 0 {
            rewrite(&mut frame, ports);
        }
        pass(&mut way).await;
        to.write_all(&head).await?;
        to.write_all(&frame).await?;
        while left > 0 {
            let piece = left.min(frame.len());
            from.read_exact(&mut frame[..piece]).await?;
            to.write_all(&frame[..piece]).await?;
            left -= piece;
        }
    }
}

/// Puts other ports behind `127.0.0.1`. In the protocol a port follows its host as a number of four bytes, whatever the
/// version of the request, so that nothing changes its length.
fn rewrite(frame: &mut [u8], ports: &Ports) {
    const HOST: &[u8] = b"127.0.0.1";
    let mut at = 0;
    while at + HOST.len() + 4 <= frame.len() {
        if !frame[at..].starts_with(HOST) {
            at += 1;
            continue;
        }
        let port = at + HOST.len();
        let [0, 0, high, low] = frame[port..port + 4] else {
            at = port;
            continue;
        };
        let known = u16::from_be_bytes([high, low]);
        if let Some((_, own)) = ports.iter().find(|(broker, _)| *broker == known) {
            frame[port + 2..port + 4].copy_from_slice(&own.to_be_bytes());
        }
        at = port + 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_brokers_are_replaced_and_nothing_else() {
        let ports = vec![(9092, 4001), (9093, 4002)];
        let address = |port: u16| {
            [
                b"\x00\x09127.0.0.1".as_slice(),
                &u32::from(port).to_be_bytes(),
            ]
            .concat()
        };
        let mut frame = [
            address(9092),
            b"between".to_vec(),
            address(9093),
            address(9094),
            b"127.0.0.1".to_vec(),
        ]
        .concat();
        let expected = [
            address(4001),
            b"between".to_vec(),
            address(4002),
            address(9094),
            b"127.0.0.1".to_vec(),
        ]
        .concat();
        rewrite(&mut frame, &ports);
        assert_eq!(frame, expected);
        let mut text = b"at 127.0.0.1:9092 ".to_vec();
        rewrite(&mut text, &ports);
        assert_eq!(text, b"at 127.0.0.1:9092 ");
    }
}

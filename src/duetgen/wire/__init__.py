"""What cloud and device agree on. Needs numpy and msgspec only.

- `limits`: the maximum of every external input
- `messages`: what they say to each other
- `codec`: the weights of theta as bytes
- `bias`: its item bias as bytes
- `trust`: how much each part counts at its age
- `authentication`: codes that prove where an answer comes from
- `samples`: what a model of any modality reads and gives
- `pictures`: samples that are encoded pictures
- `bundle`: one published version: manifest, digests, signature
- `ed25519`: verification of signatures
- `errors`: refusals that both share
"""

"""Online distillation: clips are composed in batches, labelled by the teacher, distorted, and used for training."""

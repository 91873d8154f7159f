"""Online distillation: clips composed by whole batches, labelled as they stand, distorted, and learnt."""

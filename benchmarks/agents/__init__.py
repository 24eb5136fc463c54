"""What agents gain by what Weft does around the model. The models are scripted: what is measured is not their wits."""

"""The dialect: what Istio objects mean, what is wrong with them, and exact edits of their weights. Pure."""

"""What a policy would have earned that did not choose what was shown: estimates from logged lists."""

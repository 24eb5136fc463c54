"""What limits of one call cost, what they measure, and whom they save when memory runs short."""

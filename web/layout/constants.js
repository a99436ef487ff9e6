// What the layout editor and the server both go by; nodes/layout_constants.py reads it from here.
// From the first brace on it is JSON. Boxes' areas are shares of the picture's.
export default {
  "layout_version": 1,
  "default_strength": 1.0,
  "default_start": 0.0,
  "default_end": 1.0,
  "largest_strength": 2.0,
  "smallest_box_area": 0.05,
  "largest_box_area": 0.7,
  "largest_overlap": 0.8,
  "mask_threshold": 0.5,
  "longest_chain": 64,
  "colours": ["#ff9f40", "#4bc0c0", "#9966ff", "#ff6384", "#ffcd56"]
};

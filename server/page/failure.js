// Something that ends what was begun, with a sentence for whoever sits before the page.

export class Failure extends Error {
  constructor(message, { wantsKey = false } = {}) {
    super(message);
    this.wantsKey = wantsKey; // another key may help
  }
}
